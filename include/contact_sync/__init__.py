"""Brings Salesforce contacts and accounts into the contact store. `flow` tells the story; every other module is one step or one concept of it."""
