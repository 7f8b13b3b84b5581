"What instrumentations say of a model call, in our own names."
