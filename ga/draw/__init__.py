"""Looking: pictures and pages of points, lines, planes, circles and spheres, and of what motors do to them.

matplotlib is loaded when the first picture is made.
"""

from ga.draw.page import page
from ga.draw.picture import picture
from ga.draw.scene import Action, action
from ga.draw.shapes import Shape, shapes

__all__ = ["Action", "Shape", "action", "page", "picture", "shapes"]
