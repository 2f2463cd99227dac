// Tracks one object through a live stream of images, with stubs that buf generates:
//
//	cd ../../protos && buf generate --path maskmesh/v1 && cp -r gen/go/maskmesh ../examples/go/gen/
//	cd ../examples/go && go mod init example.com/maskmesh && go mod tidy
//	go run . localhost:50050 110,262 frames/*.jpg
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	v1 "example.com/maskmesh/gen/maskmesh/v1"
)

func main() {
	if len(os.Args) < 4 {
		log.Fatal("usage: go run . ENDPOINT X,Y IMAGE...")
	}
	if err := track(context.Background(), os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		log.Fatal(err)
	}
}

func track(ctx context.Context, endpoint, click string, images []string) error {
	var x, y float32
	if _, err := fmt.Sscanf(click, "%f,%f", &x, &y); err != nil {
		return fmt.Errorf("the click %q is not X,Y: %w", click, err)
	}
	connection, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	stream, err := v1.NewSegmentationServiceClient(connection).SegmentStream(ctx)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() { sent <- send(stream, x, y, images) }()
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return <-sent
		}
		if err != nil {
			return err
		}
		switch content := response.Content.(type) {
		case *v1.SegmentStreamResponse_Result:
			frame := content.Result.Frame
			for _, object := range frame.Objects {
				rle := object.GetMask().GetRle()
				fmt.Printf("frame %d, object %d: %d x %d, trace %s\n",
					frame.FrameIndex, object.ObjId, rle.GetWidth(), rle.GetHeight(), frame.TraceId)
			}
		case *v1.SegmentStreamResponse_Rejected:
			log.Printf("rejected: %s", content.Rejected.Message)
		}
	}
}

// send sends the images, and a click on the first one, which the tracking of all later ones follows.
func send(stream v1.SegmentationService_SegmentStreamClient, x, y float32, images []string) error {
	config := &v1.SegmentStreamRequest_Config{Config: &v1.StreamConfig{}}
	if err := stream.Send(&v1.SegmentStreamRequest{Content: config}); err != nil {
		return err
	}
	for sequence, path := range images {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		frame := &v1.StreamFrame{
			Sequence: int64(sequence),
			Image:    &v1.Image{Data: &v1.Image_Encoded{Encoded: data}},
		}
		if err := stream.Send(&v1.SegmentStreamRequest{Content: &v1.SegmentStreamRequest_Frame{Frame: frame}}); err != nil {
			return err
		}
		if sequence > 0 {
			continue
		}
		prompt := &v1.StreamPrompt{RequestId: "click", ObjId: 1, Prompt: &v1.Prompt{
			Points: []*v1.Point{{X: x, Y: y, Label: v1.PointLabel_POINT_LABEL_POSITIVE}},
		}}
		if err := stream.Send(&v1.SegmentStreamRequest{Content: &v1.SegmentStreamRequest_Prompt{Prompt: prompt}}); err != nil {
			return err
		}
	}
	finish := &v1.SegmentStreamRequest_Finish{Finish: &v1.StreamFinish{}}
	if err := stream.Send(&v1.SegmentStreamRequest{Content: finish}); err != nil {
		return err
	}
	return stream.CloseSend()
}
