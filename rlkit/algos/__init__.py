"""The maths of RL as functions of tensors: no config objects, no devices, no distributed calls.

Everything works on padded `[B, R]` views: B answers, R the longest. Padding may hold anything, NaN included;
it contributes exactly zero.
"""
