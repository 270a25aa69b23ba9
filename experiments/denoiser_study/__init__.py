"""Which network and which training give the truest windows for a fixed budget of training FLOPs?"""
