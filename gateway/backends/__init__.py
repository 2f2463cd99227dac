"""Clients of the services behind the gateway, and the encoding of images."""
