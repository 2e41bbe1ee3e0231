"""What people read of a run: the console, tables, pictures, and pages as single HTML files.

Nothing in a page is loaded from elsewhere, and every text of the data is escaped.
"""
