"""What the services say to one another."""
