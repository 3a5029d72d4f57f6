"""People in the browser: raters of episodes, and players of roles. Needs the extra ``web``."""
