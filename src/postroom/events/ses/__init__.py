"""What Amazon SES reports through SNS: `sns` says whether an envelope is genuine, `notices` what is in it."""
