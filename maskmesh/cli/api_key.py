"""``maskmesh key``: API keys for gateways."""

import hashlib
import json
import secrets

import click


@click.command()
@click.argument("name")
def key(name: str) -> None:
    """Create an API key for NAME and print it once, with its entry for the gateway's key file."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise click.BadParameter("it is not valid text", param_hint="NAME") from error
    if not name:
        raise click.BadParameter("it is empty", param_hint="NAME")
    # A JSON string is a basic string of TOML, if it has neither surrogates nor a DEL.
    quoted = json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")
    secret = secrets.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    click.echo(f"API key, shown only once: {secret}", err=True)
    click.echo(f'[[key]]\nname = {quoted}\nsha256 = "{digest}"')
