"""The sender: takes a campaign's batches by lease, hands their messages to the provider, records what became of each.

campaign.py   one campaign in one worker: claims batches while the campaign is sending, several at a time
batch.py      one batch: intent, hand-over, outcomes, a group at a time; the lease kept or lost
outgoing.py   one message on its way through the mailer
pace.py       when the next messages may leave
"""
