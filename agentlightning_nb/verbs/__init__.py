"The verbs of a store, by their nouns."
