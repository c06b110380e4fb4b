"""Deploy Daybook to an AWS account: bundle, release, CloudFormation stacks, checks."""
