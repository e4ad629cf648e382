"""Small tasks on which geometric-algebra networks are trained and compared."""
