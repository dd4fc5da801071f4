"""The sender: takes a campaign's batches by lease, hands their messages to the provider, records what became of each.

worker          prepares one campaign or one daily stream and sends it
run             claims batches while the campaign is sending, several at a time
batch           one batch: intent, hand-over, outcomes, a group at a time; the lease kept or lost
stream          the same for transactional messages
context         what a run and its batches share
rate_gate       when the next messages may leave, and what a throttle answer does
provider_route  one provider: its mailer, its limits, its daily quota
dispatch        cycles that give due batches to many functions (AWS)
thread_bridge   calls the synchronous ports from the event loop
"""
