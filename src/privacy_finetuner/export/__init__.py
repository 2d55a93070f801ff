"""Models in the forms that other programs run: quantized, compared with their source, atomic."""
