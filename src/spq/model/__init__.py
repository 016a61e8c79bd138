"""Backbone, head, quantizer, and the model folder. May import `data`."""
