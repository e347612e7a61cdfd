"""The SMTP server side: takes mail for our own domains, for nobody else, and queues nothing.

aiosmtpd runs the sessions; what decides about addresses, content and bounds is ours.
"""
