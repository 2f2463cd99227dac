"""``maskmesh key``: API keys for gateways."""

import hashlib
import json
import secrets

import click


@click.command()
@click.argument("name")
def key(name: str) -> None:
    """Create an API key for NAME and print it once, with its entry for the gateway's key file."""
    secret = secrets.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    click.echo(f"API key, shown only once: {secret}", err=True)
    click.echo(f'[[key]]\nname = {json.dumps(name)}\nsha256 = "{digest}"')
