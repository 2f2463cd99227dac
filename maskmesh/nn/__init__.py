"""What both model services share of the model; the only part of maskmesh that may import torch."""
