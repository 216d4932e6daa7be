"""Listening to takes by machine: optional, off by default. `words` compares, `recogniser` hears."""
