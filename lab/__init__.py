"""The engine behind utils.py."""
