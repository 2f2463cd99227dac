"""What both model services share of the model.  The only part of maskmesh that imports torch."""
