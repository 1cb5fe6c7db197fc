"""Colours that colour-blind people can tell apart, and the shapes that do without colour."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito 2008, "Color Universal Design", less the yellow, which is faint on white."""
MARKERS = "osD^vP*X<>"
