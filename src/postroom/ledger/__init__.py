"""Every change of a campaign, batch or message, and the suppression list."""
