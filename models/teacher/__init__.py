"""Foundation models turn video and sentences into masklets that a student can train on."""
