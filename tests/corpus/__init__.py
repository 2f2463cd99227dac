"""Hostile and odd inputs that the tests make themselves, each with the value that is right for it."""
