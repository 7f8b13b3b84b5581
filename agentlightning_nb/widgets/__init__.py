"What is shown in a notebook. Needs the extra `notebook`."
