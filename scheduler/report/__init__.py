"""A report of a corpus: one page that needs nothing but itself. `page.write` makes it."""
