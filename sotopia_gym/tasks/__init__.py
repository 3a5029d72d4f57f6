"""What is played: characters, scenarios, tasks, suites and families with ground truth."""
