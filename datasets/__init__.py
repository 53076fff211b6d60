# Everything that reads or writes data: video sources, dataset adapters, clips, the synthetic world.
