"""Stores: where records wait until the broker has them."""
