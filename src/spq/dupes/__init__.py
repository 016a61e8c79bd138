"""Copies of pictures: candidates, confirmation on pixels, groups. May import `index`."""
