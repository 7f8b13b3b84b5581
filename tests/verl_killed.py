"A kernel that trains with verl until somebody kills it: `python verl_killed.py FILE STEPS [RUN]`."

import sys

from verl_agents import TASKS, asks_twice, options

from agentlightning_nb.algorithms.verl import VERL
from agentlightning_nb.trainer import Trainer

if __name__ == "__main__":
    path, steps, *resume = sys.argv[1:]
    algorithm = VERL(lr=1e-3, n=3, batch_size=2, max_steps=int(steps), max_tokens=16, eval_every=1, **options())
    with Trainer(n_workers=6, store=path) as trainer:
        run = trainer.fit(asks_twice, algorithm=algorithm, tasks=TASKS, resume=(resume or [None])[0], progress=False)
    print(run, flush=True)
    sys.exit(run.status != "succeeded")
