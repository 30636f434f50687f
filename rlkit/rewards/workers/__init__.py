"""Worker processes for reward functions: started in milliseconds, limited, and killed with everything they started.

trainer                     pool       gives out jobs, watches the clock, one thread
  |  control socket         nursery    client: starts the nursery, says when a worker has ended
nursery process             nursery_process   imports once, forks workers, reaps and kills them; runs no foreign code
  |  fork
worker process              worker     imports the function by its name, judges, one socket to the pool
"""
