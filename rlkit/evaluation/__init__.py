"""From completions to results that can be believed: scores, intervals, paired comparisons."""
