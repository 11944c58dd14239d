"""The engine that utils.py stands on."""
