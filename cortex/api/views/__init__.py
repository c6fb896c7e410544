"""The verbs of this door: permission, body, one order, answer."""
