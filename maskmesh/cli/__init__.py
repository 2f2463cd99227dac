"""The ``maskmesh`` command."""
