"""Features and networks, in the form that other tools take."""
