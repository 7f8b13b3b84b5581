"The verbs of a store over HTTP, by their nouns."
