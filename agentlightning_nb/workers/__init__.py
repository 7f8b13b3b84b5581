"Who runs attempts: threads of this process, processes of this machine, actors of a Ray cluster."

from agentlightning_nb.workers.loops import EventLoopThread
from agentlightning_nb.workers.threads import Worker, WorkerPool

__all__ = ["EventLoopThread", "Worker", "WorkerPool"]
