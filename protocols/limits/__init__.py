"""Every bound of mailboxd in one place, a module for each part, each bound with its unit in its name and its reason
beside it.

A bound that two programs must agree on (it stands in a spec) is marked "wire".
"""
