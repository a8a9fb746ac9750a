package subscribers

func (k *Keys) AppendMessageID(dst []byte, a, b, c int64) []byte {
	return append(dst, k.MessageID(a, b, c)...)
}

func (k *Keys) AppendSender(dst []byte, newsletter string, subscriber int64) []byte {
	return append(dst, k.Sender(newsletter, subscriber)...)
}
