"""The whole on AWS, end to end: the real templates, deployed to an emulator that checks permissions, and a campaign sent through them.

synthesis   the templates, made once a test run
deploying   a cloud assembly into an account, without the CDK's command line
world       the emulator and what stands around it: SES, OpenSearch, a tenant's system that is told
office      somebody who works through the deployed API
functions   the functions' processes, to be found and killed
"""
