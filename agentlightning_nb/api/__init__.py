"The verbs of a store as routes, by their nouns."
