"""Fitting a 3D morphable face to 68 landmarks: identity per person, expression and pose per frame, light on request."""
