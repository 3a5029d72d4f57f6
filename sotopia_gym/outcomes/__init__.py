"""What was agreed in conversations of others: people, and agents in other environments.

In an environment of ours an agreement is what the family's rule says, and nothing else
(:meth:`sotopia_gym.tasks.families.Family.read`). Others follow no rule. A reader here is
*selective*: it gives an outcome only where the words carry one, and ``unread`` elsewhere.
"""
