"""The guest's text formats, lossless: `str(Fstab(text)) == text`, and an edit changes what it names and nothing else.

Every class is made from a text and turned back with `str`. None reads a guest: that is the fixes' work. They never raise on
what they do not understand; such lines are kept as they are.
"""
