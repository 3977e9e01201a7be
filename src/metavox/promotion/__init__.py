"""From new recordings to a new champion: the policy, the comparison with the champion, and the versions."""
