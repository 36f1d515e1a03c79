"""How a database gets from any earlier form to today's: numbered steps, applied in order when a store is opened."""
