"""How steps are computed: precision, layout, convolutions as products, batch norms in few passes. Never what."""
