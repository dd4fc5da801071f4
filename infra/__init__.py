"""The stack on AWS, described by the CDK: `python -m infra.app` writes its templates, `postroom deploy` deploys them too.

app.py          the stages' stacks, in the order they need each other
stage.py        what differs from stage to stage: sizes, limits, what is kept
names.py        what everything is called, and so how one stack finds what is another's
functions.py    every function: its handler, its size, and exactly what it may do
partitions.py   whose rows the table's documents are
permissions.py  what "may do" is made of
data.py         table, bucket, queues, mail
dead_letters.py what could not be handled
identity.py     who signs in
search.py       OpenSearch, in a network of its own
openapi.py      the app's own description, as API Gateway reads it
refusals.py     what API Gateway answers by itself
api.py          the API, and the functions behind it
pipeline.py     the background functions and their triggers
machines/       the state machines
operations/     what watches over it
rules.py        AWS's rules that are not followed, and why
reference.py    docs/reference/aws-stack.md, from stack.md and what the description itself says
"""
