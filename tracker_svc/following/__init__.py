"""The rules by which instances of concepts become objects, stay, hide and leave, as pure functions."""
