"""The door: who may come in, how often, with what; and what each answer looks like."""
